"""What a person can mend, said in one sentence."""


class CalotypeError(Exception):
    """A fault the person can mend: the message names the thing, the cause and the next step.

    A door prints it without a traceback and ends with status 2 (or the right HTTP status). Anything else that is raised
    is our own bug and keeps its traceback.
    """
