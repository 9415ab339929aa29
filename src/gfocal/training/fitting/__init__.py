"""What a run chooses for the machine that it trains on."""
