"""What every client and the receiver agree on. Pure: no module here touches Redis or the network.

kinds       the kinds of markers and events: one table
keys        the names of an app's Redis keys
session     what an app stores about a login
decision    session + markers -> alive, revoked, expired
event       one revocation, as a stream entry and as JSON
gap         the item that a listener delivers where events may be missing
readers     which processes read an app's stream, and how far
receipts    which events a listener has handled
proof       readers + receipts -> has the app acted on a logout?
"""
