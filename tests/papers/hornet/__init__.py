"""HorNet."""
