"""A WebRTC audio relay on Trio: one UDP socket, ICE-lite, DTLS-SRTP, and a fan-out that never awaits per packet.

Independent of `lac` and `lac_web`: it knows nothing of users, databases or HTTP.
"""
