"""The wire as an AsyncAPI 3 document, generated from the message types and the topics.

Nothing on a device or in the hub imports this; ``make asyncapi`` runs it.
"""
