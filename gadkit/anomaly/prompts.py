"""The prompts of WinCLIP about an object: states that it can be in, and templates of photographs of it.

Every state goes into every template: 7 normal and 4 anomalous states in 22 templates are 154 and 88 prompts.

Source: Jeong et al., WinCLIP, CVPR 2023, section 4.1 and the lists of the supplement.
Book: anomaly/winclip
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class PromptEnsemble:
    """States and templates, each a text with one `{}`: for the object's name, and for the state with the name in it.

    Raises ValueError for an empty list, anything but texts, or a text without its `{}`.
    """

    normal: tuple[str, ...]
    anomalous: tuple[str, ...]
    templates: tuple[str, ...]

    def __post_init__(self) -> None:
        for field in ("normal", "anomalous", "templates"):
            texts = getattr(self, field)
            if isinstance(texts, str) or not isinstance(texts, tuple | list) or not len(texts):
                raise ValueError(f"{field}: expected a tuple of at least one text, got {texts!r}")
            for text in texts:
                if not isinstance(text, str) or text.count("{}") != 1:
                    raise ValueError(f"{field}: expected texts with one {{}} for what they are about, got {text!r}")
            object.__setattr__(self, field, tuple(texts))

    def texts(self, object_name: str) -> tuple[list[str], list[str]]:
        """All normal and all anomalous prompts for an object, template by template.

        Raises ValueError for a name that is no text or blank.
        """
        if not isinstance(object_name, str) or not object_name.strip():
            raise ValueError(f'object name: expected a text such as "metal nut", got {object_name!r}')
        return self._fill(self.normal, object_name.strip()), self._fill(self.anomalous, object_name.strip())

    def _fill(self, states: tuple[str, ...], name: str) -> list[str]:
        # replace, not format: a name may contain braces
        return [template.replace("{}", state.replace("{}", name)) for template in self.templates for state in states]


WINCLIP = PromptEnsemble(
    normal=(
        "{}",
        "flawless {}",
        "perfect {}",
        "unblemished {}",
        "{} without flaw",
        "{} without defect",
        "{} without damage",
    ),
    anomalous=(
        "damaged {}",
        "{} with flaw",
        "{} with defect",
        "{} with damage",
    ),
    templates=(
        "a cropped photo of the {}.",
        "a cropped photo of a {}.",
        "a close-up photo of a {}.",
        "a close-up photo of the {}.",
        "a bright photo of a {}.",
        "a bright photo of the {}.",
        "a dark photo of the {}.",
        "a dark photo of a {}.",
        "a jpeg corrupted photo of a {}.",
        "a jpeg corrupted photo of the {}.",
        "a blurry photo of the {}.",
        "a blurry photo of a {}.",
        "a photo of a {}.",
        "a photo of the {}.",
        "a photo of a small {}.",
        "a photo of the small {}.",
        "a photo of a large {}.",
        "a photo of the large {}.",
        "a photo of the {} for visual inspection.",
        "a photo of a {} for visual inspection.",
        "a photo of the {} for anomaly detection.",
        "a photo of a {} for anomaly detection.",
    ),
)

# InCTRL's code asks so about the classes of CIFAR-10, where what is anomalous is another thing, not a damaged one
PRESENCE = PromptEnsemble(
    normal=("of {}",), anomalous=("without {}",), templates=("a photo {} for anomaly detection.",)
)
