"""A double of Discord on 127.0.0.1: REST and gateway as far as the bot uses them, and the limits that Discord enforces.

The client of discord.py is real, and so are its requests, retries, rate limits and resumed sessions. The double's clock
can be moved, its sockets dropped, and any request answered with a fault. `world` has the data, `rules` what Discord
refuses, `rest` and `gateway` the two protocols, `people` those who type and press, `server` all of it on one port.
"""
