"""A seeded run of the whole product under faults that are really injected; the bucket must not show any of them."""
