"""From what tensors hold to the ranges that int8 represents, and whether the images suffice."""
