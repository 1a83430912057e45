"""Datasets from where they are published: fetched, checked, unpacked, laid out for ``extract``.

``published`` says what there is and where; ``transfer`` fetches one URL and goes on where it
stopped; ``fetch`` goes through the sources of an archive; ``archive`` and ``programs`` read
archives that nobody has vouched for; ``unpack`` writes what may be written; ``layout`` counts the
result; ``receipt`` remembers checksums; ``dataset`` is the whole way.
"""
