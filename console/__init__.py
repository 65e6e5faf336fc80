"""The operations page of one deployment, and `doctor`: for the people who run it, behind no public address.

It reads Redis and the bucket, and changes something only by announcing a batch, as a webhook does. It must not know the
value of a signing secret; `doctor` alone is given the API key.
"""
