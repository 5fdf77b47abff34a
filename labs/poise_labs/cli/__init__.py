"""The commands of the labs, which `poise` finds by their entry points."""
