"""Methods, trackers and speakers as a person or a program reads them."""
