"""Trying noises out on a MODEL: judging the images, drawing them."""
