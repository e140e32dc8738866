"""AnyName: the last part of an address where it may hold anything, slashes and ends of lines too.

torch lets a network call its parts so, and the names of layers and series come from there.
"""

from starlette.convertors import StringConvertor, register_url_convertor


class AnyName(StringConvertor):
    regex = r"[\s\S]+"


register_url_convertor("any", AnyName())
LAYER, SERIES = "{layer:any}", "{name:any}"
