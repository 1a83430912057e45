"""The flow process of a decoding process is gone."""


class FlowProcessLost(BaseException):
    """No stage of a video has failed: nothing but the end of the decoding process catches it."""
