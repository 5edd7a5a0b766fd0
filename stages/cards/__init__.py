"""Model cards: the Markdown beside a model's weights, with the front matter that model hubs read."""
