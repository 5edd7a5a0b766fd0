"""What a recipe names outside of the graph: data files and models, their identities, and checks of configurations."""
