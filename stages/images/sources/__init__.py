"""The files that images come in: Parquet, folders by class, and the own files of CIFAR and Fashion-MNIST."""
