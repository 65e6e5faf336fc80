"""The submit side: request files checked, uploaded, made a batch exactly once, watched, and brought back as one table.

It knows the API key and the bucket. It must not know Redis, a signing secret, or anything of `receiver`; of `workers`
it uses the leaves and the contract alone.
"""
