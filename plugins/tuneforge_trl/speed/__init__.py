"""What changes how long a training takes, and what it gives only in the last digits."""
