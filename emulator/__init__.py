"""A local Gemini: files, batches, webhooks, JWKS, deliveries and faults."""
