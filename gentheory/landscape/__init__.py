"""The loss along directions in the space of the parameters, and over planes of them."""
