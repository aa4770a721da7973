"""How a student is doing while it trains."""
