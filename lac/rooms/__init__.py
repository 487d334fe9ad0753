"""The room of a broadcast: presence, chat, reactions, hands and moderation."""
