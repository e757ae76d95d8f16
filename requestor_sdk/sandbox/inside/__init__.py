"""What runs inside a sandbox as its first process, copied there in compiled form.

It imports few modules of the standard library and nothing of this package, and it is as untrusted
as the payload: what keeps the payload in is outside; this only keeps order.
"""
