"""The forms before something is lost for good: the name typed, a reason, the password when it was given long ago."""

from __future__ import annotations

from typing import Any

from django import forms

from messaging_site.console.fields import Form
from messaging_site.console.signing_in import PasswordField


class DangerForm(Form):
    """Asks for the name of what is about to lose something, and why; `undone` says what a refusal left as it was."""

    confirmation = forms.CharField(max_length=249, widget=forms.TextInput(attrs={"class": "code"}))
    reason = forms.CharField(
        max_length=500, help_text="Kept in the audit record.", widget=forms.TextInput(attrs={"spellcheck": "true"})
    )

    def __init__(
        self, name: str, user: Any, data: Any = None, *, noun: str, undone: str, ask_password: bool, reason: bool = True
    ) -> None:
        super().__init__(data)
        self._name, self._noun, self._undone, self._user = name, noun, undone, user
        self.fields["confirmation"].label = f"Type the {noun}'s name"
        if not reason:
            del self.fields["reason"]
        if ask_password:
            self.fields["password"] = PasswordField()

    def clean_confirmation(self) -> str:
        """The name, if it is the right one."""
        text = str(self.cleaned_data["confirmation"])
        if text != self._name:
            raise forms.ValidationError(f"This is not the {self._noun}'s name. {self._undone}")
        return text

    def clean_reason(self) -> str:
        """The reason in one line."""
        return str(self.cleaned_data["reason"]).replace("\0", "").strip()

    def clean_password(self) -> str:
        """The password, if it is the user's."""
        text = str(self.cleaned_data["password"])
        if not self._user.check_password(text):
            raise forms.ValidationError(f"This is not your password. {self._undone}")
        return text
