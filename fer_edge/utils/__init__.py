"""General helpers that do not depend on faces or models."""
