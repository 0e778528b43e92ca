package interop;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.time.ZoneId;
import java.time.ZonedDateTime;

import org.springframework.scheduling.support.CronExpression;

/**
 * Answers each line of "expression TAB zone TAB epoch second" with the next four firings as epoch seconds, with "never"
 * where there are no more, or with "invalid".
 */
public final class SpringCron {

	private static final int FIRINGS = 4;

	private SpringCron() {
	}

	public static void main(String[] arguments) throws Exception {
		BufferedReader questions = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
		PrintStream answers = new PrintStream(System.out, false, StandardCharsets.UTF_8);
		String line;
		while ((line = questions.readLine()) != null) {
			String[] parts = line.split("\t", -1);
			answers.println(answer(parts[0], ZoneId.of(parts[1]), Long.parseLong(parts[2])));
		}
		answers.flush();
	}

	private static String answer(String text, ZoneId zone, long second) {
		CronExpression expression;
		try {
			expression = CronExpression.parse(text);
		}
		catch (IllegalArgumentException invalid) {
			return "invalid";
		}
		StringBuilder found = new StringBuilder();
		ZonedDateTime moment = Instant.ofEpochSecond(second).atZone(zone);
		for (int count = 0; count < FIRINGS; count++) {
			moment = expression.next(moment);
			if (moment == null) {
				return found.append("never").toString();
			}
			found.append(moment.toEpochSecond()).append(' ');
		}
		return found.toString().trim();
	}

}
