"""The opening scene: Sharegram sends a first handful of webhooks, and a table shows what became of each.

script.py    what is sent, and why;  stage.py     sends it through the simulator
outcomes.py  what became of it, asked of the gateway;  table.py     the table
"""
