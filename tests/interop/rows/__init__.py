"""The rows: every kind of request, right and wrong, in an order that both servers see alike."""

from rows import administration, batches, clients, frames, headers, kinds, names, offsets, properties, pulls, sends, values


def rows():
    for group in (frames.frames, sends.sends, properties.properties, batches.batches, pulls.pulls, offsets.offsets, clients.clients,
                  names.name_server, kinds.kinds, kinds.tried_again, administration.administration, values.rows, headers.rows, kinds.poison, clients.after_a_minute):
        yield from group()
