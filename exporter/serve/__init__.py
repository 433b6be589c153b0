"""A page that runs a bundle's .tflite files in a browser, on this machine or on a phone."""
