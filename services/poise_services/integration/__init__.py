"""The integration tier: asks other people's APIs."""
