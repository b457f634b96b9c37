"""What the hub's command line does with files alone, without a hub."""
