"""What coordinates the fleet."""
