"""Methods that learn from answers of the model's own: these are drawn while it trains, and rewarded."""
