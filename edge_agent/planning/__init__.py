"""What each rung of the ladder needs: memory, seconds, bytes on the link. Formulas only."""
