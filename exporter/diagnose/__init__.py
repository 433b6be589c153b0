"""Where an int8 file loses what its float file knows: finished files in, a report out."""
