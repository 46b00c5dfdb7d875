"""A plugin that fails a run in which anything was skipped, and lists it."""

import pytest


class NoSkips:
    """Gets the reports of all tests: in a run with workers, those of the workers as well."""

    def __init__(self) -> None:
        self._skipped: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Remember a skipped test."""
        if report.skipped and not hasattr(report, "wasxfail"):
            self._remember(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Remember a module that is skipped as a whole."""
        if report.skipped:
            self._remember(report)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Turn success into failure."""
        if self._skipped and exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """List what was skipped."""
        if self._skipped:
            terminalreporter.write_sep("=", f"{len(self._skipped)} skipped, and REQUIRE_REAL_BACKENDS=1", red=True)
            for line in self._skipped:
                terminalreporter.write_line(line)

    def _remember(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
        self._skipped.append(f"{report.nodeid}: {reason}")
