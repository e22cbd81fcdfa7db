"""What answers look like: the models behind the OpenAPI description."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

State = Literal["queued", "running", "paused", "done", "failed", "cancelled"]
EXAMPLE_ID = "0f3c9a52d6b84e1c97a4d1e2f3b45678"
EXAMPLE_HASH = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"


class View(BaseModel):
    model_config = ConfigDict(frozen=True)


class ErrorView(View):
    """What went wrong, in a sentence, and the option that it is about."""

    error: str = Field(description="a fixed word for the status", examples=["invalid"])
    detail: str = Field(
        description="the cause and the next step", examples=["there is no option stepz, did you mean steps?"]
    )
    option: str = Field(description="the option it is about, or empty", examples=["steps"])


class ResultView(View):
    id: str = Field(examples=[EXAMPLE_ID])
    name: str = Field(description="file name to save it under", examples=["picture.png"])
    media_type: str = Field(examples=["image/png"])
    size: int = Field(description="bytes")
    sha256: str
    facts: dict[str, Any] = Field(
        description="width, height, seed and so on, by the kind of task; notes: sentences about what was done"
    )
    url: str = Field(description="address of the file", examples=[f"/jobs/{EXAMPLE_ID}/results/{EXAMPLE_ID}"])


class JobView(View):
    """A job: a task in the queue, at work, or ended."""

    id: str = Field(examples=[EXAMPLE_ID])
    kind: str = Field(examples=["imagine"])
    task: dict[str, Any] = Field(description="options as they were given", examples=[{"prompt": "red fox, noto"}])
    files: dict[str, str | list[str]] = Field(description="uploads by the option that takes them")
    output: dict[str, Any] = Field(description="format and quality of generated pictures")
    state: State
    priority: int
    created: float = Field(description="seconds since 1970, UTC")
    started: float | None
    finished: float | None
    progress: dict[str, Any] | None = Field(description="the latest event of progress")
    preview: str | None = Field(description="address of the latest preview")
    results: list[ResultView]
    error: ErrorView | None
    cost: float = Field(description="seconds of the device so far")
    parent: str | None = Field(description="the job that this one varies")
    attempts: int
    is_favourite: bool


class JobPage(View):
    jobs: list[JobView]
    next: str | None = Field(description="`after` of the next page; null: this is the last one")


class PlaceView(View):
    """The place of a waiting job in the queue of all accounts."""

    job: str = Field(examples=[EXAMPLE_ID])
    ahead: int = Field(description="jobs that are likely to run before it, those that run now included")
    seconds: float | None = Field(description="how long they are likely to take; null: nothing like them has run yet")
    is_over_budget: bool = Field(description="whether the budget of the account is used up, so that it does not start")
    renewed_in: float | None = Field(description="seconds until a new budget begins, where it is used up; null: never")


class NoteView(View):
    """A note of a training run."""

    step: int | None = Field(description="steps done before it; null: it is about the plan or the photos")
    text: str


class SampleView(View):
    """Pictures that a training run drew on its way, as one JPEG."""

    step: int
    url: str = Field(examples=[f"/jobs/{EXAMPLE_ID}/samples/200"])


class LearningView(View):
    """What a training run has told."""

    job: str = Field(examples=[EXAMPLE_ID])
    last: int = Field(description="the number of the last event in it")
    notes: list[NoteView]
    losses: list[tuple[int, float]] = Field(description="step, and the mean loss of the last steps")
    samples: list[SampleView]


class UploadView(View):
    id: str = Field(description="sha256 of the file", examples=[EXAMPLE_HASH])
    size: int = Field(description="bytes")


class ParametersView(View):
    """What a picture was generated with; both are empty if it does not say."""

    text: str = Field(description="as A1111 or this program wrote it")
    parameters: dict[str, str] = Field(description="by A1111's names", examples=[{"Prompt": "red fox", "Steps": "20"}])


class TaskView(View):
    """A kind of task."""

    kind: str = Field(examples=["restore"])
    title: str
    description: str
    options: dict[str, Any] = Field(description="JSON Schema of `task`; options with x-file are given in `files`")
    files: list[str] = Field(description="options that take uploads", examples=[["source"]])
    required_files: list[str] = Field(description="those without which there is no job", examples=[["source"]])


class ModelView(View):
    """A model of the store, or one that could be downloaded."""

    name: str = Field(examples=["realesrgan-x4plus"])
    kind: str = Field(description="as x-names of an option", examples=["upscale"])
    purpose: str
    is_available: bool
    is_shipped: bool = Field(description="whether it comes with the program, and stays")
    is_own: bool = Field(description="whether it belongs to this account alone, which may remove it")
    preview: str | None = Field(description="address of a small picture of what it makes")
    licence: str
    size: int = Field(description="bytes; 0 if unknown")
    about: str


class PresetView(View):
    """Options under a name."""

    name: str = Field(examples=["soft portraits"])
    kind: str = Field(examples=["restore"])
    task: dict[str, Any] = Field(examples=[{"strength": "0.7"}])


class HealthView(View):
    status: Literal["ok", "stopping"]
    version: str


class AccountView(View):
    """The account that the request came from, its limits, and what is used of them."""

    name: str
    is_admin: bool
    has_accounts: bool = Field(description="whether the service can have accounts")
    seconds_used: float = Field(description="seconds of devices within the last day, or of the trial")
    seconds_limit: float | None = Field(description="null: no limit")
    queued_jobs: int = Field(description="jobs that wait or are paused")
    queued_limit: int | None
    running_jobs: int
    running_limit: int | None


class NewAccountView(View):
    name: str
    token: str = Field(description="shown only once; sent as `Authorization: Bearer`")


class LinkView(View):
    """A result that is public under an address which nobody can guess."""

    id: str = Field(examples=[EXAMPLE_ID])
    url: str = Field(description="public address; given only when the link is created", examples=["/s/…"])
    job: str
    result: str
    created: float


class DownloadView(View):
    """How far a model is fetched."""

    name: str = Field(examples=["codeformer"])
    state: Literal["waiting", "running", "done", "failed"]
    done: int = Field(description="bytes")
    total: int = Field(description="bytes; 0 if unknown")
    error: str = Field(description="why it failed, in a sentence; else empty")


class ImportView(View):
    """A folder of another program, whose models can be put on the list."""

    id: str = Field(examples=["0f3c9a52d6b84e1c"])
    name: str = Field(description="of the folder", examples=["stable-diffusion-webui"])
    state: Literal["", "running", "done", "failed"] = Field(description="empty: not since the service was started")
    added: int = Field(description="models that were added")
    known: int = Field(description="models that were on the list already")
    failed: int = Field(description="files that cannot be used")
    faults: list[str] = Field(description="why not, a sentence each, the first ones")


class KeptModelView(View):
    name: str = Field(description="its name in requests", examples=["mine"])
    kind: str = Field(examples=["lora"])
    is_own: bool = Field(description="whether it belongs to this account alone")


class AllowanceView(View):
    """An account, and what it may use."""

    name: str
    is_admin: bool
    is_disabled: bool
    is_trial: bool = Field(description="whether it was opened with an invitation")
    people: list[str] = Field(description="names on Discord of those who use it there")
    seconds: float | None = Field(description="device seconds a day; null: no limit")
    max_running: int
    max_queued: int
    max_stored: float = Field(description="GiB of uploads and models")


class InvitationView(View):
    invitation: str = Field(description="shown only once; it opens accounts by `POST /signup`")


# Answers in OpenAI's form


class OpenAIFault(View):
    message: str
    type: str = Field(examples=["invalid_request_error"])
    param: str | None = Field(description="the parameter it is about", examples=["size"])
    code: str | None = Field(examples=["invalid_value"])


class OpenAIErrorView(View):
    """What went wrong, in OpenAI's form."""

    error: OpenAIFault


class OpenAIModelView(View):
    """A model that generates pictures."""

    id: str = Field(description="its name in requests", examples=["emoji"])
    object: Literal["model"] = "model"
    created: int = Field(0, description="always 0")
    owned_by: Literal["calotype"] = "calotype"


class OpenAIModelsView(View):
    object: Literal["list"] = "list"
    data: list[OpenAIModelView]


class TokenDetails(View):
    image_tokens: int = 0
    text_tokens: int = 0


class UsageView(View):
    """Nothing is counted in tokens here, so that these are 0."""

    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    input_tokens_details: TokenDetails = TokenDetails()
    device_seconds: float = Field(description="what the job cost")


class PictureView(View):
    b64_json: str | None = None
    url: str | None = Field(None, description="address of the file, which needs the same token")


class PicturesView(View):
    """Generated pictures."""

    created: int = Field(description="seconds since 1970")
    data: list[PictureView]
    background: Literal["opaque"] = "opaque"
    output_format: Literal["png", "jpeg", "webp"]
    quality: Literal["low", "medium", "high", "xhigh", "max"]
    size: str = Field(description="of the pictures", examples=["512x512"])
    usage: UsageView
    safety_identifier: str | None = None
