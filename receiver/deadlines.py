"""How long the receiver waits, all in seconds and in one place, because whatever stands in front must wait longer.

A proxy that gives up on a body before we do may turn the silence into an empty 200 (Caddy did until 2026-06), and one
that keeps an idle connection for longer than we do sends a request into its closing.
"""

# From a connection, or the first byte of its next request, to the end of the head.
HEAD_SECONDS = 10.0
# From the end of the head to the end of the body.
BODY_SECONDS = 10.0
# From the end of the body to the answer. Gemini gives up after a few seconds; the design promises two.
ANSWER_SECONDS = 1.7
# Between the decision to close a connection and its end, for what is on its way in either direction: closing at once
# would reset it, and a reset can overtake an answer (RFC 9112, section 9.6).
LINGER_SECONDS = 1.0
# Between two requests. Here the proxy's own must be the shorter one.
KEEP_ALIVE_SECONDS = 130
# For what is under way when we are told to stop.
GRACE_SECONDS = 5
