"""All that hub and agent say to one another. numpy at most, never torch."""
