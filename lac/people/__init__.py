"""People: profiles, who follows whom, who wants to be reminded."""
