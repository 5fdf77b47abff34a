"""The evaluation tier: scores every finished run."""
