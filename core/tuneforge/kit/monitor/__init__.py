"""A monitor of trainings: the troubles that they may have, each told when it is seen, with cause and remedy."""
