"""Weights and biases: scaled so that int8 suits them, rounded so that errors cancel."""
