"""The axes of a method, the terms of the loss that they give, and the losses. Planning reads them, so nothing here
imports torch: the losses are written with the methods of the tensors that they are given."""
