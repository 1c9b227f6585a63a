"""Steps on several processes and machines: as they are asked for, and as torchrun starts them."""
