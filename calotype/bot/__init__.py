"""The door to Discord, over the job store like the others (docs/bot.md).

Pure: `prompt` (Midjourney's grammar), `blocked` (words), `message` (texts), and what commands do in the job store:
`studio`, `blend`, `regions`, `tags`, `training`. With discord.py: `client` (the bot itself), `interactions` (what all
commands have in common), `buttons`, `channels`, `follow` (messages that follow their jobs), `delivery` (what takes the
place of a message that Discord refuses), `guests` (servers, and who writes directly), `commands`. What the store keeps
for them is in `jobs/chat.py`.
"""
