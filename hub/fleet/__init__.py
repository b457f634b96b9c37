"""Who is there: sessions, liveness, what each device said of itself."""
