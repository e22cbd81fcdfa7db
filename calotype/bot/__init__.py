"""The door to Discord, over the job store like the others (docs/bot.md).

Pure: `prompt` (Midjourney's grammar), `message` (texts). With discord.py: `client` (the bot itself), `buttons`,
`follow` (messages that follow their jobs), `delivery` (what takes the place of a message that Discord refuses),
`commands`. What the store keeps for them is in `jobs/chat.py`.
"""
