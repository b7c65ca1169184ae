"""XMP: the properties of a packet that still hold for another file of the same photograph."""

from __future__ import annotations

from xml.dom import minidom

# Bytes; packets that some programs let grow without end are not worth the memory to read them.
_LONGEST = 2**22

# Namespaces and names of properties that only hold for the old file.
_STALE_PROPERTIES = {
    ("http://ns.adobe.com/tiff/1.0/", "Orientation"),  # the pixels are written upright
    ("http://ns.adobe.com/tiff/1.0/", "ImageWidth"),
    ("http://ns.adobe.com/tiff/1.0/", "ImageLength"),
    ("http://ns.adobe.com/tiff/1.0/", "BitsPerSample"),
    ("http://ns.adobe.com/tiff/1.0/", "Compression"),
    ("http://ns.adobe.com/exif/1.0/", "PixelXDimension"),
    ("http://ns.adobe.com/exif/1.0/", "PixelYDimension"),
    ("http://ns.adobe.com/xap/1.0/", "Thumbnails"),
    ("http://ns.adobe.com/xmp/note/", "HasExtendedXMP"),  # which is not kept
}
# Namespaces about gain maps, depth maps and films that a phone stores behind the picture.
_STALE_NAMESPACES = {
    "http://ns.adobe.com/hdr-gain-map/1.0/",
    "http://ns.google.com/photos/1.0/camera/",
    "http://ns.google.com/photos/1.0/container/",
    "http://ns.google.com/photos/1.0/depthmap/",
    "http://ns.google.com/photos/1.0/image/",
}


def kept_xmp(packet: bytes | None) -> bytes | None:
    """Drop what only held for the old file from an XMP packet.

    Returns:
        The packet, byte for byte the same if nothing is stale; None if there is no packet, it is
        not XML in UTF-8, or it is longer than 4 MiB.
    """
    if not isinstance(packet, bytes) or len(packet) > _LONGEST:
        return None

    packet = packet.rstrip(b"\0")
    try:
        packet.decode()
        document = minidom.parseString(packet)
        if document.doctype is not None:  # XMP has none; entities are
            return None
        if not _drop_stale(document):
            return packet
        return "".join(node.toxml() for node in document.childNodes).encode()
    except Exception:  # damaged metadata must not cost the picture
        return None


def _drop_stale(document: minidom.Document) -> bool:
    """Drop stale properties in place; returns True if there were any."""
    found = False
    for element in document.getElementsByTagName("*"):
        for attribute in list(element.attributes.values()):
            if _is_stale(attribute):
                element.removeAttributeNode(attribute)
                found = True
        if _is_stale(element) and element.parentNode is not None:
            element.parentNode.removeChild(element)
            found = True

    return found


def _is_stale(node: minidom.Node) -> bool:
    return (
        node.namespaceURI in _STALE_NAMESPACES
        or (node.namespaceURI, node.localName) in _STALE_PROPERTIES
    )
