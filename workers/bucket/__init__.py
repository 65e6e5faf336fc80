"""Objects under names, in a folder or in a store, behind one small protocol.

It knows files, requests, durability and what each kind of store can't do. It must not know what is stored: nothing of
Gemini, Redis or RQ, and nothing of the rest of `workers` but its errors.
"""
