"""Images: their files, their decoded pixels, their augmented views, and networks that classify them."""
