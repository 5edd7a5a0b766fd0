"""Which epoch's weights a training keeps, and which learning rate a sweep chooses."""
